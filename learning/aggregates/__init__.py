"""What is made of a round's updates: means, aggregates that bear some liars, and the model that follows."""
