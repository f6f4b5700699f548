from .generator import Sample as Sample
from .generator import Stage as Stage
from .generator import TextGenerator as TextGenerator
from .pretrained import ELF as ELF
from .requests import Request as Request
from .requests import requests_from_data as requests_from_data
from .requests import requests_from_user as requests_from_user
