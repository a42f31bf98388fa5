"""Networks as folders of the Hugging Face hub: written, read back, uploaded."""

from compound.hub.folder import push_to_hub as push_to_hub
from compound.hub.folder import save_pretrained as save_pretrained
from compound.hub.folder import source_of as source_of
