"""The static wing: from source files to findings, without running or importing the code."""
