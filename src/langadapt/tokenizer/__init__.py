"""The tokenizer, adapted: strategies, and what they are made of."""
