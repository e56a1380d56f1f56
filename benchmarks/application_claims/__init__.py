"""What the applications are worth: one file per claim, each a function from what it is given to values by measure."""
