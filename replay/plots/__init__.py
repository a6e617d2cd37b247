"""`pitboss replay plot`: curves over a slice of the topics, as SVG or PNG.

series    the numbers of each plot, by SQL over the views of a slice
drawing   series as a figure

Needs the packages of the extra `analysis`.
"""
