"""What runs inside the child process, beside the user's script. The only room that imports torch."""
