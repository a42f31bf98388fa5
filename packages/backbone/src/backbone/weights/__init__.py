"""Classifiers' weights from any source, under our names."""

from backbone.weights.classifier import ClassifierWeights as ClassifierWeights
from backbone.weights.classifier import fill as fill
from backbone.weights.classifier import read_weights as read_weights
