from ipaddress import IPv4Address, IPv4Network

from local.machine.layout import CONTROL, PODS, SERVICES, Layout


def test_each_role_gets_a_gpu_node_beside_control(layout: Layout) -> None:
    assert [(node.name, node.is_gpu) for node in layout.nodes] == [
        ("control", False),
        ("gpu-static-a", True),
        ("gpu-swap", True),
    ]


def test_addresses_and_pod_ranges_never_meet(layout: Layout) -> None:
    addresses = {node.address for node in layout.nodes}
    ranges = [IPv4Network(node.pods) for node in layout.nodes]
    assert len(addresses) == len(layout.nodes)
    assert layout.nodes[0].address == CONTROL
    for one in ranges:
        assert one.subnet_of(IPv4Network(PODS))
        assert not one.overlaps(IPv4Network(SERVICES))
        assert not any(one.overlaps(other) for other in ranges if other is not one)
        assert not any(IPv4Address(address) in one for address in addresses)


def test_init_reads_the_layout_that_was_written(layout: Layout) -> None:
    assert Layout.from_json(layout.to_json()) == layout
