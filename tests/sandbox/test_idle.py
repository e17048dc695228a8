"""Who sleeps and who waits for a processor, from clocks alone."""

from spa_bench.sandbox.inside.idle import LONGEST, PATIENCE, WINDOW, Idle, too_long


def idle_after(seconds: float, *, share: float, tick: float = 0.02, began: float = 100.0) -> float:
    """Idle seconds of a program that gets that share of a processor, looked at every `tick`."""
    idle, now, found = Idle(began), began, 0.0
    while now < began + seconds:
        now += tick
        found = idle.seconds(now, share * (now - began))
    return found


def test_a_sleeper_is_idle_all_the_time_from_the_first_look_on():
    for tick in (0.02, 0.11, 3.0):
        assert abs(idle_after(6, share=0, tick=tick) - 6) <= tick
    assert idle_after(0.1, share=0) > 0.09


def test_a_program_that_gets_a_small_share_of_a_busy_processor_is_never_idle():
    for share in (1.0, 0.1, 0.03):
        assert idle_after(60, share=share) == 0


def test_a_program_that_works_first_and_then_sleeps_is_idle_from_then_on():
    idle, now = Idle(0.0), 0.0
    for _ in range(400):
        now += 0.02
        found = idle.seconds(now, min(now, 2.0))
    assert abs(found - 6) <= WINDOW + 0.02


def test_time_is_over_by_idleness_or_at_last_by_the_clock():
    assert not too_long(PATIENCE * 1 + 0.9, 5, 1.0)
    assert too_long(PATIENCE * 1 + 1.1, 5, 1.0)
    assert not too_long(0, LONGEST + 4.9, 1.0)
    assert too_long(0, LONGEST + 5.1, 1.0)
