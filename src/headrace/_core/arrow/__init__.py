"""Arrow: the structures that libraries exchange columns by, and the code that fills and reads them."""
