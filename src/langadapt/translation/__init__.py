"""Machine translation of corpora: texts are taken apart, masked, translated once, checked, and put together again."""
