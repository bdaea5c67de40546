"""Tables, the HTML page, the README's table, and the explanation of a number."""
