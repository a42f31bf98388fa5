"""Networks as folders of the Hugging Face hub: written, read back, uploaded."""

from backbone.hub.folder import push_to_hub as push_to_hub
from backbone.hub.folder import save_pretrained as save_pretrained
from backbone.hub.folder import source_of as source_of
