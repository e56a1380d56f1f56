"""How the weights of the embedded world are made: tokenizer, readers, CLIP, unified model, measurements."""
