"""Small messages: sparse, in few bits, packed; and the error that is left is sent later."""
