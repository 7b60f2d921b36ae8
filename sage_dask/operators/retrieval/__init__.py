"""What retrieving and reranking rest on: an index folder, its vectors, its words, and scores."""
