"""Pictures: classes and numbers from images."""
