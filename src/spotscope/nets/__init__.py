"""Pure torch networks, losses and the retrieval index; nothing here knows of slides or sections."""
