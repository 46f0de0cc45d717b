"""How families read a forward's tokens: ids, vision tokens, what is remembered per tensor."""
