"""Weights from anywhere: safely read, checked against the architecture, and reported."""

from backbone.weights.classifier import ClassifierWeights as ClassifierWeights
from backbone.weights.classifier import LoadReport as LoadReport
from backbone.weights.classifier import fill as fill
from backbone.weights.classifier import read_weights as read_weights
from backbone.weights.files import check_fit as check_fit
from backbone.weights.files import read_file as read_file
from backbone.weights.files import save_weights as save_weights
from backbone.weights.metadata import metadata_of as metadata_of
from backbone.weights.pretrained import pretrained_file as pretrained_file
