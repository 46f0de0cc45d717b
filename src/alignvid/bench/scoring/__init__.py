"""From records to scores, with intervals and tests."""
