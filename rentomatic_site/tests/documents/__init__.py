"""A module for each document: what is written for people is true."""
