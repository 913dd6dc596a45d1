"""What training and serving share: tables of text, coercion, fitted preparation, executors and the bundle."""
