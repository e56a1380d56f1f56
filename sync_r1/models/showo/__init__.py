"""Show-o (Phi backbone, MAGVIT-v2 image tokens)."""
