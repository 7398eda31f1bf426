"""One file per screen, and the cards in front of them."""
