"""What providers send, held against what they declared: shapes of drift, told once each."""
