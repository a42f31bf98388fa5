"""Files of weights and what they say of themselves: read safely, written completely."""

from compound.weights.files import read_file as read_file
from compound.weights.files import save_weights as save_weights
from compound.weights.metadata import metadata_of as metadata_of
from compound.weights.pretrained import pretrained_file as pretrained_file
from compound.weights.transfer import LoadReport as LoadReport
from compound.weights.transfer import check_fit as check_fit
