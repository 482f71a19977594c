"""Text and labels in: files, pickles, packaged corpora, the hub; splits; tokens."""
