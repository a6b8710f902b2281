"""The commands of the command line, by what they are about. What is heavy to import is imported by the command that runs."""
