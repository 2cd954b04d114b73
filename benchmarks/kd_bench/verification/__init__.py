"""Whether published numbers hold: recomputed from predictions, measured anew from weights, trained again."""
