"""Energy by the counters of a machine: exact over a counter's turn, and silent where there is none."""

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace

import pytest

from langadapt.energy import Counter, gpus, metered, processors


def counter(*readings, part="processors", **more):
    left = iter(readings)
    return Counter(part=part, read=lambda: next(left), **more)


def test_joules_are_what_the_counters_moved_by():
    found = [counter(10.0, 25.5), counter(1.0, 2.0), counter(100.0, 107.0, part="gpus")]
    with metered(found) as used:
        assert used == {}
    assert used == {"processors": 16.5, "gpus": 7.0}


def test_a_counter_that_goes_round_while_it_is_watched_is_followed():
    readings, read_all = [90.0, 20.0, 80.0, 10.0], threading.Event()

    def read():
        if len(readings) == 1:
            read_all.set()
            return readings[0]
        return readings.pop(0)

    with metered([Counter(part="processors", read=read, range=100.0)], period=0.001) as used:
        assert read_all.wait(60)
    assert used == {"processors": 30.0 + 60.0 + 30.0}


def test_a_counter_that_is_lost_is_not_told_of():
    left = [1.0]

    def read():
        if not left:
            raise OSError("the device is gone")
        return left.pop()

    with metered([Counter(part="gpus", read=read)]) as used:
        pass
    assert used == {}


def test_a_failure_passes_through():
    with pytest.raises(ValueError, match="of the stage"), metered([]):
        raise ValueError("of the stage")


def zone(folder, place, name, joules, turns=1000.0):
    made = folder / place
    made.mkdir()
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    (made / "max_energy_range_uj").write_text(f"{turns * 1e6:.0f}\n")
    return made


def test_packages_and_memory_count_and_what_they_contain_does_not(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    zone(tmp_path, "intel-rapl:0:0", "core", 3)
    zone(tmp_path, "intel-rapl:0:1", "dram", 1)
    zone(tmp_path, "intel-rapl:1", "psys", 50)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5)
    found = processors(tmp_path)
    assert sorted((c.read(), c.range) for c in found) == [(1, 1000), (5, 1000)]


def test_processors_that_nobody_may_read_are_not_counted_in_part(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    (zone(tmp_path, "intel-rapl:1", "package-1", 5) / "energy_uj").unlink()
    assert processors(tmp_path) == [] and processors(tmp_path / "none") == []


def nvidia(energies, *, counts=True):
    """Stand-ins for CUDA's and NVML's libraries with GPUs that have used so many millijoules."""

    def device_count(count):
        count._obj.value = len(energies)
        return 0

    def bus_id(place, length, index):
        place.value = f"0000:0{index}:00.0".encode()[: length - 1]
        return 0

    def handle_of(place, handle):
        handle._obj.value = int(place.value[6:7]) + 1
        return 0

    def used(handle, millijoules):
        millijoules._obj.value = energies[handle.value - 1]
        return 0 if counts else 3  # NVML_ERROR_NOT_SUPPORTED

    cuda = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGetCount=device_count, cuDeviceGetPCIBusId=bus_id)
    nvml = SimpleNamespace(
        nvmlInit_v2=lambda: 0, nvmlDeviceGetHandleByPciBusId_v2=handle_of, nvmlDeviceGetTotalEnergyConsumption=used
    )
    return cuda, nvml


def test_gpus_that_cuda_sees_are_counted_in_joules():
    assert [c.read() for c in gpus(*nvidia([1500, 2500]))] == [1.5, 2.5]
    assert gpus(*nvidia([1500], counts=False)) == []


def test_a_machine_without_drivers_has_no_gpus_to_count(monkeypatch):
    def none(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert gpus() == []
