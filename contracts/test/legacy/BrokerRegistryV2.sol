// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRegistryV1} from "./BrokerRegistryV1.sol";

/// @title Stands in for the registry of the second generation, with its defects. For tests; never deploy it.
/// @dev The ABI of the first. An operator that registers again moves to the new entry. What of it is wrong: removing the
/// entry it moved on from deletes the operator of the live one.
contract BrokerRegistryV2 is BrokerRegistryV1 {
    function _admit(address operator) internal override {
        uint256 brokerId = operatorToBrokerId[operator];
        if (brokerId == 0) return;
        brokers[brokerId - 1].active = false;
        emit BrokerDeactivated(brokerId, operator);
    }
}
