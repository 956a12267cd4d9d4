"""Problems for language models, and who says whether an answer is right."""
