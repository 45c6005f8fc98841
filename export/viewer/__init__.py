"""One page to look at instances: turn them, move the light, see every map. Live (``server``) or in a file
(``share``)."""
