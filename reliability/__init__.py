"""What an installation goes through when processes die, disks fill and connections break."""
