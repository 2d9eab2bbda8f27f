"""What a person may do to a segment without a model: pure functions on arrays (k, j, i), lengths in mm."""
