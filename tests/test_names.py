"""The public names of the packages of networks: they complete, and each is what it says."""

import importlib
import inspect
import pickle
from collections.abc import Callable
from types import ModuleType

import pytest

import backbone
import compound
import efficientdet
import efficientnetv2
from compound.errors import UserError

# The names that other programs rely on, written out.
BUILDERS = {
    "backbone": "efficientnet",
    "efficientdet": "efficientdet",
    "efficientnetv2": "efficientnetv2",
}
VARIANTS = {
    "backbone": "b0 b1 b2 b3 b4 b5 b6 b7 b8 l2 lite0 lite1 lite2 lite3 lite4",
    "efficientdet": "d0 d1 d2 d3 d4 d5 d6 d7 d7x lite0 lite1 lite2 lite3 lite3x lite4",
    "efficientnetv2": "s m l xl b0 b1 b2 b3",
}
PACKAGES = (backbone, efficientdet, efficientnetv2)


@pytest.mark.parametrize("package", PACKAGES)
def test_names_complete_in_a_notebook(package: ModuleType) -> None:
    names = dir(package)
    expected = {f"{BUILDERS[package.__name__]}_{v}" for v in VARIANTS[package.__name__].split()}
    assert expected | {"create_model", "list_models", "load_model"} <= set(names)
    assert set(package.list_models()) == expected
    assert set(package.__all__) <= set(names)
    for name in {*package.__all__, *expected}:
        assert getattr(package, name) is not None
    assert package.__version__ == compound.__version__
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'b99'"):
        package.b99  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_names_for_type_checkers_are_those_at_run_time(package: ModuleType) -> None:
    """What stands under TYPE_CHECKING is said a second time, by module, for the run time."""
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert getattr(importlib.import_module(value.__module__), name) is value


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (backbone.efficientnet_lite0, "efficientnet_lite0"),
        (efficientnetv2.efficientnetv2_b0, "efficientnetv2_b0"),
        (efficientdet.efficientdet_lite0, "efficientdet_lite0"),
    ],
)
def test_each_variant_is_a_function(build: Callable[..., backbone.EfficientNet], name: str) -> None:
    model = build(num_classes=7)
    assert (model.spec.name, model.num_classes) == (name, 7)
    assert (build.__name__, f"Build {name};" in str(build.__doc__)) == (name, True)
    assert next(iter(inspect.signature(build).parameters)) == "num_classes"
    assert pickle.loads(pickle.dumps(build)) is build
    with pytest.raises(UserError, match="'drop_out' is unknown; did you mean dropout"):
        backbone.efficientnet_b0(drop_out=0.1)
