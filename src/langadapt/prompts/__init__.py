"""Prompt formats: messages become token ids, with the tokens that bear loss marked."""
