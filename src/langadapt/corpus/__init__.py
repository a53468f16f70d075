"""From files to packed tokens: read, clean, split off the held-out part, tokenise, pack; every drop has a name."""
