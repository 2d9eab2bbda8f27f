"""What plug-in authors and the demonstration need: phantoms with a known truth."""
