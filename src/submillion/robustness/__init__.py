"""How much of a classifier's accuracy is left when text is noisy, differently written, or attacked."""
