// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRegistry} from "./interfaces/IBrokerRegistry.sol";
import {Secp256k1} from "./lib/Secp256k1.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title The public list of brokers. See IBrokerRegistry.
/// @dev `operatorToBrokerId` names an operator's live entry only; an entry it has moved on from keeps its `operator` for
/// the record. Ownership moves in two steps: the new owner calls acceptOwnership().
contract BrokerRegistry is IBrokerRegistry, Ownable2Step {
    /// @inheritdoc IBrokerRegistry
    Broker[] public override brokers;
    /// @inheritdoc IBrokerRegistry
    mapping(address operator => uint256 brokerId) public override operatorToBrokerId;
    /// @inheritdoc IBrokerRegistry
    mapping(address requestsContract => uint256 brokerId) public override requestsContractToBrokerId;

    constructor() Ownable(msg.sender) {}

    /// @inheritdoc IBrokerRegistry
    function registerBroker(
        address operator,
        address requestsContract,
        bytes calldata encryptionPubkey,
        string calldata region,
        uint256 capacity
    ) external onlyOwner returns (uint256 brokerId) {
        if (operator == address(0)) revert ZeroAddress();
        _checkPubkey(encryptionPubkey);
        brokerId = brokers.length + 1;
        _claimRequestsContract(requestsContract, brokerId);
        _supersede(operator);

        Broker storage broker = brokers.push();
        broker.operator = operator;
        broker.requestsContract = requestsContract;
        broker.encryptionPubkey = encryptionPubkey;
        broker.region = region;
        broker.active = true;
        broker.capacity = capacity;
        broker.registeredAt = block.timestamp;
        operatorToBrokerId[operator] = brokerId;
        emit BrokerRegistered(brokerId, operator, requestsContract, region);
    }

    /// @inheritdoc IBrokerRegistry
    function updateEncryptionPubkey(bytes calldata encryptionPubkey) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        _checkPubkey(encryptionPubkey);
        broker.encryptionPubkey = encryptionPubkey;
        emit BrokerUpdated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function updateRegion(string calldata region) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        if (bytes(region).length == 0) revert EmptyRegion();
        broker.region = region;
        emit BrokerUpdated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function updateCapacity(uint256 capacity) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        broker.capacity = capacity;
        emit BrokerUpdated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function updateLoad(uint256 currentLoad) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        uint256 capacity = broker.capacity;
        if (capacity != 0 && currentLoad > capacity) revert LoadAboveCapacity(currentLoad, capacity);
        broker.currentLoad = currentLoad;
        emit BrokerLoadUpdated(brokerId, currentLoad);
    }

    /// @inheritdoc IBrokerRegistry
    function updateRequestsContract(address requestsContract) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        _claimRequestsContract(requestsContract, brokerId);
        delete requestsContractToBrokerId[broker.requestsContract];
        broker.requestsContract = requestsContract;
        emit BrokerUpdated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function rotateOperator(address newOperator) external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        if (newOperator == address(0)) revert ZeroAddress();
        uint256 taken = operatorToBrokerId[newOperator];
        if (taken != 0) revert OperatorTaken(newOperator, taken);
        delete operatorToBrokerId[msg.sender];
        operatorToBrokerId[newOperator] = brokerId;
        broker.operator = newOperator;
        emit OperatorRotated(brokerId, msg.sender, newOperator);
    }

    /// @inheritdoc IBrokerRegistry
    function deactivate() external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        broker.active = false;
        emit BrokerDeactivated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function activate() external {
        (uint256 brokerId, Broker storage broker) = _ownBroker();
        broker.active = true;
        emit BrokerActivated(brokerId, msg.sender);
    }

    /// @inheritdoc IBrokerRegistry
    function removeBroker(uint256 brokerId) external onlyOwner {
        Broker storage broker = _broker(brokerId);
        address operator = broker.operator;
        if (operator == address(0)) revert BrokerAlreadyRemoved(brokerId);
        // An operator that moved on to another entry keeps that one.
        if (operatorToBrokerId[operator] == brokerId) delete operatorToBrokerId[operator];
        delete requestsContractToBrokerId[broker.requestsContract];
        broker.active = false;
        broker.operator = address(0);
        emit BrokerRemoved(brokerId, operator);
    }

    /// @inheritdoc IBrokerRegistry
    function getBroker(uint256 brokerId) external view returns (Broker memory) {
        return _broker(brokerId);
    }

    /// @inheritdoc IBrokerRegistry
    function getBrokerCount() external view returns (uint256) {
        return brokers.length;
    }

    /// @inheritdoc IBrokerRegistry
    function isOperator(address operator) external view returns (bool) {
        return operatorToBrokerId[operator] != 0;
    }

    /// @dev Deactivates the entry the operator moves on from, if there is one.
    function _supersede(address operator) private {
        uint256 brokerId = operatorToBrokerId[operator];
        if (brokerId == 0) return;
        brokers[brokerId - 1].active = false;
        emit BrokerDeactivated(brokerId, operator);
    }

    function _claimRequestsContract(address requestsContract, uint256 brokerId) private {
        if (requestsContract == address(0)) revert ZeroAddress();
        uint256 taken = requestsContractToBrokerId[requestsContract];
        if (taken != 0) revert RequestsContractTaken(requestsContract, taken);
        requestsContractToBrokerId[requestsContract] = brokerId;
    }

    /// @dev The caller's live entry.
    function _ownBroker() private view returns (uint256 brokerId, Broker storage broker) {
        brokerId = operatorToBrokerId[msg.sender];
        if (brokerId == 0) revert NotOperator(msg.sender);
        broker = brokers[brokerId - 1];
    }

    function _broker(uint256 brokerId) private view returns (Broker storage) {
        if (brokerId == 0 || brokerId > brokers.length) revert InvalidBrokerId(brokerId);
        return brokers[brokerId - 1];
    }

    function _checkPubkey(bytes calldata encryptionPubkey) private pure {
        if (!Secp256k1.isUncompressedPoint(encryptionPubkey)) revert InvalidPubkey(encryptionPubkey);
    }
}
