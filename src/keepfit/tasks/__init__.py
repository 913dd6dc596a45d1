"""What scores mean: tasks, their metrics and how groups of rows compare; pure numpy, so that serving may use it."""
