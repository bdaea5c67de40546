"""Tables, the page, the README's table, and the way back from a number."""
