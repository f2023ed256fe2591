"""The modules of a project, linked and followed: calls, values, the typestate of scalers and gradients."""
