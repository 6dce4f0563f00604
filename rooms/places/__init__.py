"""Places that people name: a gazetteer, and coordinates as people write and paste them."""
