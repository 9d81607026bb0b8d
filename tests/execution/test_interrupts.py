"""Test interrupts that are noted while a library works."""

import os
import signal

import pytest

from orchestrator.execution.interrupts import SIGNALS, noted


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_is_raised_where_it_is_asked_for(number):
    reached = []
    with pytest.raises(KeyboardInterrupt), noted() as check:
        check()
        os.kill(os.getpid(), number)
        reached.append("the next line")  # a library's, say, which would have lost it
        check()
        reached.append("never")
    assert reached == ["the next line"]


def test_an_interrupt_says_at_once_that_it_was_heard(capfd):
    with pytest.raises(KeyboardInterrupt), noted():
        os.kill(os.getpid(), signal.SIGINT)
        assert "the jobs are being stopped" in capfd.readouterr().err


def test_an_interrupt_that_nobody_asked_for_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), noted():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_is_raised_at_once():
    reached = False
    with pytest.raises(KeyboardInterrupt), noted():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert not reached


def test_the_handlers_of_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS]
    with noted() as check:
        check()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_an_error_after_an_interrupt_is_taken_for_its_consequence():
    with pytest.raises(KeyboardInterrupt), noted():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("a worker is gone")


def test_an_error_without_an_interrupt_is_raised():
    with pytest.raises(OSError, match="full"), noted():
        raise OSError("disk full")
