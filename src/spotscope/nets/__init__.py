"""Pure torch networks, losses and the retrieval index; none of it knows of slides."""
