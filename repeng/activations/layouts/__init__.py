"""How texts are laid out in batches: packed as prefix trees, or padded, and the check that both agree."""
