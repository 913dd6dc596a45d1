"""The HTTP front of a bundle; loads `runtime` and a web server, none of the training code."""
