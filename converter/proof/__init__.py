"""What a variant is worth against its source: metrics, paired intervals, and what they certify."""
