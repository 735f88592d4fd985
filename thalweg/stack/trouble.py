"""What keeps a local stack from starting or from going on, all of it told in words of its own."""

from typing import Final

from thalweg.conf.environment import SetupIncompleteError
from thalweg.processes.children import ChildFailedError
from thalweg.processes.ports import NoFreePortError
from thalweg.stack.broker import BrokerSetupError
from thalweg.stack.state import StateFolderError

STACK_TROUBLE: Final = (ChildFailedError, StateFolderError, BrokerSetupError, NoFreePortError, SetupIncompleteError)
