"""Learning from something other than right and wrong: preferences, designed comparisons, demonstrations."""
