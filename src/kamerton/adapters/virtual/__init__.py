"""Virtual tokens before every text: prefix-tuning and prompt tuning."""
